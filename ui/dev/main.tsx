/** The page alone, on answers of test/fixtures.ts: `npm run dev`, then /plugin/mlpipex. Nothing of this is built. */

import { createRoot } from "react-dom/client";
import { BrowserRouter, Route, Routes } from "react-router-dom";

import Page from "../src/main.tsx";
import { answerTo } from "../test/fixtures.ts";

const ask = globalThis.fetch;
globalThis.fetch = async (input, init) => {
  const url = input instanceof Request ? input.url : String(input);
  const answer = answerTo(url);
  return answer === undefined ? ask(input, init) : Response.json(answer);
};

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <BrowserRouter>
      <Routes>
        <Route path="plugin/:page/*" element={<Page />} />
      </Routes>
    </BrowserRouter>,
  );
}
