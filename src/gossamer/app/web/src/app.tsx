import { Component, type ReactNode, useEffect } from "react";
import { get } from "./api";
import { Answer, Failed, refusalOf, useAnswer } from "./parts/states";
import { hashOf, usePlace } from "./route";
import { CircuitView } from "./views/circuit";
import { Home } from "./views/home";
import { LatentView } from "./views/latent";
import { PromptView } from "./views/prompt";

export function App() {
  const { path } = usePlace();
  const run = useAnswer("run", (signal) => get("/api/v1/run", {}, undefined, signal));
  const [asking] = run;
  const name = asking.state === "answered" ? asking.value.run : "";
  const circuits = asking.state === "answered" ? asking.value.parts.filter((part) => part.kind === "circuit") : [];
  useEffect(() => {
    document.title = [...path.slice(1), path[0] ?? name, "gossamer"].filter(Boolean).join(" · ");
    document.getElementById("main")?.scrollTo(0, 0);
  }, [path.join("/"), name]);
  return (
    <>
      <a className="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>To the content</a>
      <header className="top">
        <a className="brand" href="#/">gossamer</a>
        <span className="run">{name}</span>
        <nav aria-label="Views">
          <a href="#/" aria-current={path.length === 0 ? "page" : undefined}>Overview</a>
          {circuits.map((part) => (
            <a key={part.id} href={hashOf(["circuit", part.id])} aria-current={path[0] === "circuit" && path[1] === part.id ? "page" : undefined}>{circuits.length > 1 ? part.id : "Circuit"}</a>
          ))}
          {circuits[0] && <a href={hashOf(["prompt", path[1] ?? circuits[0].id])} aria-current={path[0] === "prompt" ? "page" : undefined}>Your text</a>}
        </nav>
      </header>
      <main id="main" tabIndex={-1}>
        <Caught key={path.join("/")}>
          {path.length === 0 ? <Answer of={run} waiting="Reading the run folder …">{(found) => <Home run={found} />}</Answer>
            : path[0] === "circuit" && path[1] ? <CircuitView id={path[1]} tab={path[2] ?? "map"} />
            : path[0] === "prompt" && path[1] ? <PromptView id={path[1]} />
            : path[0] === "latent" && path[1] && path[2] ? <LatentView id={path[1]} feature={path[2]} />
            : <div className="state failed" role="alert"><p>There is no such view.</p><a href="#/">Back to the overview</a></div>}
        </Caught>
      </main>
    </>
  );
}

/** A view that breaks says so, and leaves the others as they are. */
class Caught extends Component<{ children: ReactNode }, { error: unknown }> {
  state = { error: null as unknown };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  render() {
    return this.state.error === null ? this.props.children : <Failed error={refusalOf(this.state.error)} retry={() => this.setState({ error: null })} />;
  }
}
