/** The menu: a view a link, or a list of files where a run has several that one view shows. */
import type { Shapes } from "../api";
import { hashOf } from "../route";
import { VIEWS, viewOf } from "../views";

export function Menu({ path, parts }: { path: string[]; parts: Shapes["PartFacts"][] }) {
  return (
    <nav aria-label="Views">
      <a href="#/" aria-current={path.length === 0 ? "page" : undefined}>Overview</a>
      {VIEWS.map((view) => {
        const here = path[0] === view.path;
        const files = parts.filter((part) => viewOf(part) === view);
        const start = view.start?.(parts) ?? (files.length === 1 ? [files[0]!.id] : null);
        if (start) return <a key={view.path} href={hashOf([view.path, ...start])} aria-current={here ? "page" : undefined}>{view.name}</a>;
        if (files.length === 0) return null;
        return (
          <details key={view.path} className="menu" data-here={here || undefined}>
            <summary>{view.name}</summary>
            <ul onClick={(event) => event.currentTarget.closest("details")?.removeAttribute("open")}>
              {files.map((part) => <li key={part.id}><a href={hashOf([view.path, part.id])} aria-current={here && path[1] === part.id ? "page" : undefined}>{part.id.replaceAll("~", " / ")}</a></li>)}
            </ul>
          </details>
        );
      })}
    </nav>
  );
}
