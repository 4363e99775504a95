// A page at rest draws nothing. Runs before Gradio does.
// Gradio's sign of loading has a clock, which goes on after the sign is gone: each open page computed sixty frames a second
// for it, for ever. Nothing of this page shows such a clock, so it gets no frame. tests/browser/test_frame.py sees whether
// another release of Gradio has written it in another way.
(() => {
  const CLOCK = /^\(\) ?=> ?\{[\s\S]{0,40}performance\.now\(\) ?- ?/;
  const next = window.requestAnimationFrame.bind(window);

  window.requestAnimationFrame = (act) => (CLOCK.test(String(act)) ? 0 : next(act));
})();
