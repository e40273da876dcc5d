import { livesGoAsTheModelSays } from "./lives.js";

livesGoAsTheModelSays("redis");
