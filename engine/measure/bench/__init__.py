"""Speed of a model on this machine, with a proof that what was measured was real.

questions clips     what is asked: texts, pictures and clips that all differ, so that no cache is hit by accident
targets remote      what answers: an Engine in this process; any server with OpenAI's routes
  peers servers     mlx_lm and mlx_vlm by themselves; servers as child processes
about               facts for a result: hardware, checkpoint (hash, bytes per token), versions; the roofline
plan                what a suite is: groups of cases, each with its rounds of questions
suites              the suites by name: text, image, video, startup
  reuse streams     cache; concurrency
  forms             structured
  speculation       the same answers with and without it
  versus            peers: the same questions to other programs
run events load     asks all targets in turns and reports events; the machine's load meanwhile
canary              were the media seen, was the cache cold, is the answer right
samples             one timed answer
points result       rounds -> points, ratios, facts; everything of a run
stats report        lists -> numbers; a result as text
files seal card     JSON, CSV and Parquet; whether JSON was changed since; a picture to show
compare store       two results side by side; saved runs
command             vllm-mlx-bench

The command and the Benchmark tab read the same stream of events, on one event loop:

    from engine.measure.bench.about import about        # machine, model, versions: takes a second, call it in a thread
    from engine.measure.bench.plan import BenchSettings
    from engine.measure.bench.run import Run
    from engine.measure.bench.suites import SUITES      # name -> Suite(name, title, needs, servers, ...)
    from engine.measure.bench.targets import EngineTarget

    run = Run([SUITES["image"]], [EngineTarget(engine)], BenchSettings(quick=True), about(card.path))
    async for event in run.events(): ...
    run.stop()          # at any time: Finished follows, with what was measured until then
    run.result()        # at any time: a Result; its json() is what --output writes

Events (engine.measure.bench.events; Load in load, Point in result):

    Started    first: suites, cases, targets, num_answers, settings
    Progress   after each answer: done, total, target, case, sample, counts. Draw the sample if counts and case are set
    Load       twice a second: at_s, cpu_percent, *_bytes, others (requests of others that the engine runs)
    Noise      at_s, kind ("traffic", "swap", "busy", "thermal", "spread", "skipped"), message
    Point      when a case is done: case, target, rounds, canary, noise, errors; metric("ttft") -> Numbers in ms
    Finished   last: result; result.stopped when the run was stopped before its end

Case.labels are the axes of charts (pixels, frames, streams, words). Metrics and their units: result.UNITS.
Closing or cancelling events() stops the run too. Suites with servers=True (peers, startup) take targets that start
processes.
"""
