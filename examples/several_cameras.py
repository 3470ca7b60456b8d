"""Track faces from several sources with one set of models: python examples/several_cameras.py SOURCE SOURCE …"""

import sys
import threading

from mien import MienError, Pipeline, open_capture


def follow(source: str, pipeline: Pipeline, seen: dict[str, set[int]]) -> None:
    """Collect the track ids of one source; runs in a thread."""
    seen[source] = set()
    try:
        with open_capture(source) as capture:
            for _, faces in pipeline.track(capture):
                seen[source].update(faces.track_id.tolist())
    except MienError as error:  # the other sources continue
        print(f"{source}: {error}", file=sys.stderr)


seen: dict[str, set[int]] = {}
with Pipeline.load(threads=1) as pipeline:  # one thread per call: the sources share the cores
    threads = [threading.Thread(target=follow, args=(source, pipeline, seen)) for source in sys.argv[1:] or ["0"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
for source, ids in seen.items():
    print(f"{source}: different faces: {len(ids)}")
