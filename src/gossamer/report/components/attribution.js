/**
 * How information moved: active latents, what each came from, and why heads looked where they did.
 *
 * For a page, an application or a notebook alike; `data` is what gossamer.attention.AttributionData saves, `shown` its
 * texts with nothing invisible in them (gossamer.report.attribution_page). Lines "include FILE" are put in by
 * gossamer.report.html.component and by the build of the workbench: the parts of this file share one scope.
 */
export function mountAttribution(host, DATA, SHOWN, how = {}) {
  const stop = new AbortController();
  const root = entered(host, CSS, MARKUP, how);
  // include shared/parts.js
  // include attribution/data.js
  // include attribution/grid.js
  // include attribution/node.js
  // include attribution/graph.js
  // include attribution/page.js
  return { begin, open, select, destroy: () => stop.abort() };
}

// include shared/entered.js

const CSS = String.raw`
// include shared/base.css
// include attribution/style.css
`;

const MARKUP = String.raw`
// include attribution/markup.html
`;
