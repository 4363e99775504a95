// The service worker: it makes the page installable, and where the server is gone it says so instead of the browser's own
// error. It keeps nothing: no page, no answer, no file, nothing of the API. Everything but a look at the page itself goes
// to the server as if this were not here.
const GONE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>MLX Workbench cannot be reached</title>
<style>
:root { color-scheme: light dark; --ground: #fbfbfd; --ink: #1f2937; --quiet: #566379; --line: #e2e8f0; --card: #fff; }
@media (prefers-color-scheme: dark) { :root { --ground: #0e1116; --ink: #e5e7eb; --quiet: #94a3b8; --line: #2a303a; --card: #171b22; } }
body { margin: 0; min-height: 100dvh; display: grid; place-items: center; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 420px; margin: 16px; padding: 28px; border: 1px solid var(--line); border-radius: 20px; background: var(--card); }
h1 { margin: 0 0 10px; font-size: 21px; line-height: 1.3; }
p { margin: 8px 0; color: var(--quiet); }
code { display: block; padding: 9px 12px; border-radius: 10px; background: var(--ground); color: var(--ink); font: 13.5px/1.5 ui-monospace, monospace; }
a { display: inline-block; margin-top: 12px; padding: 9px 18px; border-radius: 12px; background: #4f46e5; color: #fff; text-decoration: none; }
a:focus-visible { outline: 3px solid #a5b4fc; outline-offset: 2px; }
</style>
</head>
<body>
<main>
<h1>The server cannot be reached</h1>
<p>Nothing answers at this address. Where the workbench was stopped, start it again:</p>
<code>vllm-mlx-chat</code>
<p>Your conversations are where they were. This page looks again every five seconds.</p>
<a href="">Look again</a>
</main>
</body>
</html>`;
const HEADERS = {
  "Content-Type": "text/html; charset=utf-8",
  "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "Cache-Control": "no-store",
};

const isPage = ({ mode, method, url }) => mode === "navigate" && method === "GET"
  && new URL(url).pathname === new URL(self.registration.scope).pathname;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (!isPage(event.request)) return;
  event.respondWith(fetch(event.request).catch(() => new Response(GONE, { status: 503, headers: HEADERS })));
});

// "Your answer is done" was clicked: the page that is open comes to the front.
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil((async () => {
    const pages = await self.clients.matchAll({ type: "window" });
    const page = pages.find(({ url }) => url === event.notification.data) ?? pages[0];
    if (page) await page.focus();
    else await self.clients.openWindow(event.notification.data);
  })());
});
