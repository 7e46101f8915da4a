// A component's markup and style in its element: behind a shadow root, or plainly in a page that has nothing else.
// Styles are constructed, which a strict Content-Security-Policy allows.
const entered = (host, css, markup, { plain = false, only = null }) => {
  const root = plain ? document : host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  root.adoptedStyleSheets = [sheet];
  (plain ? host : root).innerHTML = markup;
  if (only) for (const section of root.querySelectorAll("section")) section.hidden = !only.includes(section.id);
  return root;
};
