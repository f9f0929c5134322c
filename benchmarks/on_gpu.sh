#!/usr/bin/env bash
# The full-size trainings, in parallel on one GPU: bash benchmarks/on_gpu.sh maps|grades OUT
#
# Nothing depends on it: every command below is documented where it is defined, and goes on without a GPU.
# Inputs are read from .gpu/, which is never committed; a comment beside each use names the command that makes it.
#
#   maps    networks of vessel maps and detectors for transfer, one for each camera left out
#   grades  the study of graders, the comparison of pyramids, the published ROP networks
set -u
WHAT=$1 OUT=$2
export PYTHONPATH=$PWD/src:$PWD/.gpu/site:${PYTHONPATH:-} PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
RUN=${RUN:-/tmp/run}
mkdir -p "$RUN" "$OUT"
PYTHON=${PYTHON:-python3}
MINUTES=${MINUTES:-5}                              # after which the trainings end by themselves
LIMIT=${LIMIT:-$((${MINUTES%.*} * 60 + 90))}       # seconds after which a job is stopped

job() {  # job NAME COMMAND...: in the background, its output in a log of that name
    local name=$1
    shift
    echo "$(date +%T) $name: $*"
    (timeout -k 5 "$LIMIT" "$@" >"$RUN/$name.log" 2>&1; echo "$(date +%T) $name: ended with $?") &
}

case $WHAT in
maps)
    # .gpu/real.zip, .gpu/simulated.zip: nicking.crossing_study.map_photographs; .gpu/sets: nicking.crossing_study.packed_sets
    for cameras in "" drive hrf les_av iostar "stare chase"; do
        name=${cameras:+without_}${cameras:-all}
        job "maps_${name// /_}" "$PYTHON" -m fundoscope.nicking.crossing_study.vessel_maps --data .gpu/real.zip .gpu/simulated.zip \
            --without $cameras --minutes "$MINUTES" --workers 2 --out "$RUN/maps/${name// /_}"
    done
    for camera in drive les_av hrf; do
        job "detector_$camera" "$PYTHON" -m fundoscope.nicking.crossing_study.transfer_detectors --data .gpu/sets \
            --without "$camera" --workers 1 --minutes "$MINUTES" --out "$RUN/detectors"
    done
    wait
    (cd "$RUN" && for one in maps/*; do tar cf "$OUT/${one/\//_}.tar" "$one/result"; done; tar cf "$OUT/detectors.tar" detectors/*/*.safetensors detectors/*/seen.json)
    ;;
grades)
    # .gpu/patches.zip, .gpu/eyes.zip, .gpu/natural.zip: benchmarks/patch_pack.py pack; .gpu/upstream: runs/weights-nicking/upstream;
    # .gpu/rop_pack.npz: benchmarks/rop_networks.py
    for table in patches eyes natural; do
        "$PYTHON" benchmarks/patch_pack.py unpack ".gpu/$table.zip" "$RUN/$([ $table = natural ] && echo natural || echo nicked)" --workers 16
    done
    nicked=$RUN/nicked
    job grades "$PYTHON" -m fundoscope nicking study-grades "$nicked/real.csv" --extra "$nicked/eyes.csv" --extra "$RUN/natural/natural.csv" \
        --also "$nicked/banded.csv" --also "$nicked/redrawn.csv" --also "$nicked/oblique.csv" --upstream .gpu/upstream/without_drive \
        --upstream .gpu/upstream/without_hrf --upstream .gpu/upstream/without_les_av --graders all --folds 5 --seeds 3 --workers 11 \
        --minutes "$MINUTES" --out "$RUN/grades"
    job rop "$PYTHON" benchmarks/rop_networks.py --pack .gpu/rop_pack.npz --out "$RUN/rop" --workers 4 --minutes "$MINUTES"
    job pyramids "$PYTHON" benchmarks/pyramids.py fit --data .gpu/sets --out "$RUN/pyramids" --workers 6 --drawing 1 --minutes "$MINUTES"
    wait
    (cd "$RUN" && tar czf "$OUT/rop.tar.gz" rop/results; tar czf "$OUT/pyramids.tar.gz" pyramids/study.json pyramids/split.json pyramids/detections)
    (cd "$RUN/grades" && tar czf "$OUT/grades.tar.gz" -- *.json *.csv calibrated.parquet tables explanations/*.csv report.html)
    ;;
*)
    echo "$WHAT: give maps or grades" >&2
    exit 2
    ;;
esac
wait
(cd "$RUN" && tar czf "$OUT/logs.tar.gz" -- *.log)
tail -n 3 "$RUN"/*.log
