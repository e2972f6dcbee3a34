// Posts the code after the # of a login link: no server and no log has seen it until then.
const form = document.getElementById("login");

function takeCode() {
  const code = location.hash.slice(1);
  if (!code || !form) return;
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.code.value = code;
  form.submit();
}

// A link opened in a tab that stands on this page already changes the part after the # and loads nothing.
window.addEventListener("hashchange", takeCode);
takeCode();
