// Puts each further text where it belongs, and sends what is written from this phone.
"use strict";

const texts = document.getElementById("texts");
const form = document.getElementById("write");

function show({ html, edits }) {
  const atTheEnd = texts.scrollHeight - texts.scrollTop - texts.clientHeight < 80;
  const earlier = edits && texts.querySelector(`[data-id="${CSS.escape(edits)}"]`);
  if (earlier) {
    earlier.outerHTML = html;
  } else {
    texts.insertAdjacentHTML("beforeend", html);
  }
  if (atTheEnd) texts.scrollTop = texts.scrollHeight;
}

// The page itself knows how much it shows; after a broken line the browser says itself where it was.
const live = new EventSource(`${location.pathname}/live?after=${texts.dataset.after}`);
live.onmessage = (event) => show(JSON.parse(event.data));
texts.scrollTop = texts.scrollHeight;

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = form.elements.text;
  const said = { from: form.dataset.from, text: field.value, account: form.elements.account.value };
  const answer = await fetch("/__sim/inbound", { method: "POST", body: JSON.stringify(said) });
  if (answer.ok) {
    field.value = "";
  } else {
    field.setCustomValidity(`Non inviato: il simulatore risponde ${answer.status}`);
    field.reportValidity();
    field.setCustomValidity("");
  }
});
