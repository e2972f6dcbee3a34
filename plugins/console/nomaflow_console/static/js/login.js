// Posts the code after the # of a login link: no server and no log has seen it until then.
const form = document.getElementById("login");

function takeCode() {
  const code = location.hash.slice(1);
  if (!code || !form) return;
  // The browser keeps the part after the # on its way from a page to its login: of a link to a line it is no code.
  if (form.elements.next.value !== "/" && !/^(?!try-)[\w-]{40,}$/.test(code)) {
    for (const next of document.getElementsByName("next")) next.value += location.hash;
    history.replaceState(null, "", location.pathname + location.search);
    return;
  }
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.code.value = code;
  form.submit();
}

// A link opened in a tab that stands on this page already changes the part after the # and loads nothing.
window.addEventListener("hashchange", takeCode);
takeCode();
