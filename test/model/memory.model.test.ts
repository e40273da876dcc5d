import { livesGoAsTheModelSays } from "./lives.js";

livesGoAsTheModelSays("memory");
