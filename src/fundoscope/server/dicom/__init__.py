"""DICOM traffic of the reading room: what opens sockets to cameras and to a PACS.

    peers         another application entity: its address, its title, TLS; an association with it
    commitment    storage commitment: what is asked, and the reports that come back
    sender        C-STORE of files, with storage commitment
    intake        photographs that came by themselves: their patient and exam are found or made, and they are judged

The objects that travel are made and read by `fundoscope.dicom` and `fundoscope.imaging`.
"""
