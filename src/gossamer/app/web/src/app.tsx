import { Component, type ReactNode, Suspense, useEffect } from "react";
import { type Shapes, get } from "./api";
import { Menu } from "./parts/menu";
import { Answer, Failed, Waiting, refusalOf, useAnswer } from "./parts/states";
import { usePlace } from "./route";
import { VIEWS } from "./views";
import { Home } from "./views/home";

type Run = ReturnType<typeof useAnswer<Shapes["Overview"]>>;

export function App() {
  const { path } = usePlace();
  const run = useAnswer("run", (signal) => get("/api/v1/run", {}, undefined, signal));
  const [asking] = run;
  const name = asking.state === "answered" ? asking.value.run : "";
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
        <Menu path={path} parts={asking.state === "answered" ? asking.value.parts : []} />
      </header>
      <main id="main" tabIndex={-1}>
        <Place path={path} run={run} />
      </main>
    </>
  );
}

/** The view of a place; of none, the overview. */
export function Place({ path, run }: { path: string[]; run: Run }) {
  return (
    <Caught key={path.join("/")}>
      <Suspense fallback={<Waiting>Loading the view …</Waiting>}>
        {path.length === 0 ? <Answer of={run} waiting="Reading the run folder …">{(found) => <Home run={found} />}</Answer>
          : VIEWS.find((view) => view.path === path[0])?.show(path.slice(1))
          || <div className="state failed" role="alert"><p>There is no such view.</p><a href="#/">Back to the overview</a></div>}
      </Suspense>
    </Caught>
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
