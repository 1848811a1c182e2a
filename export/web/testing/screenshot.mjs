// Takes the picture of the README: screenshot.mjs OUT.png
import { answered, launch, serve } from "./browser.mjs";

const server = await serve();
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1120, height: 1040 }, deviceScaleFactor: 1.5 });
await page.goto(server.address);
await page.click("#sample");
await answered(page);
await page.locator("#precision").dispatchEvent("change"); // the first call of a network is its slowest
await answered(page);
await page.locator("#lanes .lane:nth-child(4) .segment").last().hover(); // the best of its lane
await page.screenshot({ path: process.argv[2] });
await browser.close();
server.stop();
