// Shows openapi.json with Swagger UI. A file of its own, because the page may run no script that stands in it.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

/** Calls may go to another port of the machine that the page came from. */
function reachable(document) {
  for (const { variables } of document.servers) if (variables?.host) variables.host.default = location.hostname;
  return document;
}

async function show() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
  window.ui = window.SwaggerUIBundle({
    spec: reachable(await answer.json()),
    dom_id: "#page",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    // A hundred operations are a list of services first.
    docExpansion: "none",
    filter: true,
    // Neither who has read it nor what it says is any other server's business.
    validatorUrl: null,
    persistAuthorization: false,
    tryItOutEnabled: true,
  });
}

show().catch((error) => {
  document.getElementById("page").textContent = `The document could not be shown: ${error.message}`;
});
