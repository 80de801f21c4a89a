// Calls the tool whose name ends with "list_projects", and writes what came to the file of the environment.
const vscode = require("vscode");
const fs = require("node:fs");

exports.activate = () => {
  const waiting = setInterval(async () => {
    const tools = vscode.lm.tools.map((one) => one.name).filter((name) => name.includes("innkeeper"));
    const wanted = tools.find((name) => name.endsWith("list_projects"));
    if (!wanted) return;
    clearInterval(waiting);
    const told = { version: vscode.version, tools };
    try {
      const { content } = await vscode.lm.invokeTool(wanted, { input: {}, toolInvocationToken: undefined });
      told.said = content.map((part) => part.value ?? "").join("");
    } catch (fault) {
      told.fault = String(fault);
    }
    fs.writeFileSync(`${process.env.CALLED}.draft`, JSON.stringify(told));
    fs.renameSync(`${process.env.CALLED}.draft`, process.env.CALLED);
  }, 100);
};
