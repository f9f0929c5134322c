"""DICOM traffic of the reading room: what opens sockets to cameras and to a PACS.

    settings      titles, TLS, another application entity, the receiver
    peers         an association with another application entity, or why there is none
    commitment    storage commitment: what is asked, and the reports that come back
    sender        C-STORE of files, with storage commitment
    receiver      C-ECHO and C-STORE of photographs
    intake        photographs that came by themselves: their patient and exam are found or made, and they are judged

The objects that travel are made and read by `fundoscope.dicom` and `fundoscope.imaging`.
"""
