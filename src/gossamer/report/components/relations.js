/**
 * Which features belong together: what is passed on, thresholds, gates, communities, the graph of a prompt, ablations.
 *
 * For a page, an application or a notebook alike; `data` is what gossamer.relations.RelationsData saves, `shown` its
 * texts with nothing invisible in them (gossamer.report.relations_page). `how.only`: ids of the sections to show.
 * Lines "include FILE" are put in by gossamer.report.html.component and by the build of the workbench: the parts of this
 * file share one scope.
 */
export function mountRelations(host, DATA, SHOWN, how = {}) {
  const stop = new AbortController();
  const root = entered(host, CSS, MARKUP, how);
  // include shared/parts.js
  // include relations/data.js
  // include relations/lifecycle.js
  // include relations/sweep.js
  // include relations/gates.js
  // include relations/communities.js
  // include relations/layout.js
  // include relations/graph.js
  // include relations/panel.js
  // include relations/effects.js
  return { save, destroy: () => stop.abort() };
}

// include shared/entered.js

const CSS = String.raw`
// include shared/base.css
// include relations/style.css
`;

const MARKUP = String.raw`
// include relations/markup.html
`;
