// A page that survives the network. Runs before Gradio does.
// Gradio takes one failed call for a lost server, and reloads the page once the server answers again: what was typed is
// gone. So a call of its events that fails on the way waits here until the server answers, and is sent again. It carries
// a key, so that an action whose reply was lost is not done twice.
(() => {
  const FIRST_WAIT_MS = 400, LONGEST_WAIT_MS = 3000;
  const GATEWAY = [502, 503, 504];  // a proxy in front of a server that is being started anew
  const plain = window.fetch.bind(window);
  const listeners = [];
  let lost = false;

  const token = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  const isEvent = (input, init) => typeof init?.body === "string" && init.method === "POST"
    && new URL(String(input?.url ?? input), location.href).pathname.includes("/gradio_api/run/");

  const say = (isLost) => {
    if (isLost === lost) return;
    lost = isLost;
    for (const listener of listeners) listener(lost);
  };

  const pause = (time_ms) => new Promise((resolve) => { setTimeout(resolve, time_ms); });

  const steady = async (input, init) => {
    const headers = new Headers(init.headers);
    headers.set("Idempotency-Key", token());
    for (let wait_ms = FIRST_WAIT_MS; ; wait_ms = Math.min(LONGEST_WAIT_MS, 1.5 * wait_ms)) {
      try {
        const response = await plain(input, { ...init, headers });
        if (!GATEWAY.includes(response.status)) return response;
      } catch (error) {
        if (error.name === "AbortError") throw error;
      }
      say(true);
      await pause(wait_ms);
    }
  };

  window.fetch = (input, init) => (isEvent(input, init) ? steady(input, init) : plain(input, init));

  // Whether the browser runs on the server's own machine.
  const isLocal = /^(localhost|127\.|\[::1\])/.test(location.hostname);

  // lost(): whether the server could not be reached last; heard(), missed(): what the page's own events noticed.
  window.workbenchNetwork = {
    token, isLocal,
    lost: () => lost,
    heard: () => say(false),
    missed: () => say(true),
    watch: (listener) => listeners.push(listener),
  };
})();
