import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { takeToken } from "./surroundings";
import "./style.css";

takeToken();
createRoot(document.getElementById("root")!).render(<StrictMode><App /></StrictMode>);
