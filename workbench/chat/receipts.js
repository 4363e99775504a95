// Fills a receipt that is opened under an answer with the pictures that the model saw.
(() => {
  const fill = (receipt, media, error) => {
    const rows = receipt.querySelectorAll(":scope > ol > li");
    rows.forEach((row, place) => {
      row.querySelectorAll(".frames > li > span").forEach((frame, slot) => {
        const url = media?.[place]?.[slot];
        const image = document.createElement(url ? "img" : "i");
        if (url) Object.assign(image, { src: url, alt: "" });
        frame.replaceChildren(image);
      });
    });
    receipt.title = error ?? "";
  };

  const seen = (element, props, watch, trigger) => {
    addEventListener("toggle", (event) => {
      const receipt = event.target;
      if (!receipt.matches?.("#chat .receipt") || !receipt.open || receipt.querySelector("img")) return;
      trigger("submit", { receipt: receipt.id });
    }, true);  // toggle does not bubble
    watch("value", () => {
      const receipt = document.getElementById(props.value?.receipt);
      if (receipt) fill(receipt, props.value.media, props.value.error);
    });
  };

  window.workbenchReceipts = { seen };
})();
