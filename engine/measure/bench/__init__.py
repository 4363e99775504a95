"""How fast is it, with the proof that what was measured was real.

questions clips     what is asked: texts, pictures and clips that all differ, so that nothing is reused by accident
targets remote      who is asked: an Engine in this process, any OpenAI server
  peers servers     mlx_lm and mlx_vlm by themselves; servers as child processes
about               hardware, checkpoint (hash, bytes per token), versions; the roofline
plan suites         what a suite is; text, image, video, startup
  reuse streams     cache; concurrency
  versus            peers: the same asked of others; startup
run events load     asks everyone in turns and tells what happens; the machine meanwhile
canary              did it see, was it cold, is the answer right
samples             one timed answer
points result       rounds -> points, ratios, facts; all of a run
stats report        lists -> numbers; a result as text
files compare store JSON and CSV; two results side by side; runs that are kept: Store().save(name, result), list()
command             vllm-mlx-bench

The command and the Benchmark tab read the same stream, on one event loop:

    from engine.measure.bench.about import about      # machine, model, versions: takes a second, use a thread
    from engine.measure.bench.events import Finished, Noise, Progress, Started
    from engine.measure.bench.load import Load
    from engine.measure.bench.plan import Settings
    from engine.measure.bench.result import Point
    from engine.measure.bench.run import Run
    from engine.measure.bench.suites import SUITES      # name -> Suite(name, title, needs, servers, ...)
    from engine.measure.bench.targets import EngineTarget

    run = Run([SUITES["image"]], [EngineTarget(engine)], Settings(quick=True), about(card.path))
    async for event in run.events(): ...
    run.stop()                                                  # any time: Finished follows, with what was measured
    run.result()                                                # any time: Result; .json() is what --output writes

    Started   suites, cases, targets, num_answers, settings     first
    Progress  done, of, target, case, sample, counts            after each answer: draw sample if counts and case
    Load      at_s, cpu_percent, *_bytes, others                twice a second; others: requests of the chat running
    Noise     at_s, what, said                                  "traffic", "swap", "busy", "thermal", "spread"
    Point     case, target, rounds, canary, noise, errors       when a case is done: metric("ttft") -> Numbers in ms
    Finished  result                                            last; result.stopped when it was ended before

Case.labels are the axes of charts (pixels, frames, streams, words). Metrics and their units: result.UNITS.
Closing or cancelling events() is stopping too. Suites with servers=True (peers, startup) take targets that start
processes.
"""
