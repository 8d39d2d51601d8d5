// No request leaves this origin: the description is this port's own, and no validator is asked about it. A credential
// that is typed in stays in the page's memory, and goes with it.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  validatorUrl: null,
  persistAuthorization: false,
  queryConfigEnabled: false,
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
});
