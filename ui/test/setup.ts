import { configure } from "@testing-library/react";

// How long an answer takes to be drawn says what else the machine does.
configure({ asyncUtilTimeout: 60_000 });
