// The form of the page to log in. Gradio's route sets the cookies; the page is then asked for anew.
(() => {
  const form = document.querySelector("form"), told = form.querySelector("[role=alert]"), button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    told.textContent = "";
    try {
      const response = await fetch("login", { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (response.ok) { location.reload(); return; }
      told.textContent = told.dataset.wrong;
      form.elements.password.select();
    } catch {
      told.textContent = told.dataset.away;
    }
    button.disabled = false;
  });
})();
