// Posts the code after the # of a login link: no server and no log has seen it until then.
const code = location.hash.slice(1);
const form = document.getElementById("login");
if (code && form) {
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.code.value = code;
  form.submit();
}
