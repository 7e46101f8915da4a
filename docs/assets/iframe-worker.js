// A page that is opened from a disk may start no worker. The search's is then run in a hidden frame of the page.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = (...urls) => Promise.all(urls.map((one) => load(inside.document, one)));
      this.frame = frame;
      this.loaded = load(inside.document, url);
    }

    postMessage(data) {
      const inside = this.frame.contentWindow;
      this.loaded.then(() => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };

  const load = (where, url) =>
    new Promise((done, failed) => {
      const script = where.createElement("script");
      script.addEventListener("load", done);
      script.addEventListener("error", () => failed(new Error(`${url}: a script expected, found none`)));
      script.src = new URL(url, location.href);
      where.body.append(script);
    });
}
