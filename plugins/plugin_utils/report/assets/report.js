// Makes both tables sortable, and the servers filterable by words; without it the page shows all the same.
try {
    const shared = {paging: false, autoWidth: false, order: [], layout: {topStart: null, topEnd: null, bottomStart: null, bottomEnd: null}};
    const language = {search: "Filter by words", info: "_TOTAL_ servers", infoFiltered: " of _MAX_", infoEmpty: "no server", zeroRecords: "No server has all of these words.", emptyTable: "No server is on."};
    const servers = new DataTable("#servers", {...shared, language, layout: {...shared.layout, topStart: "search", topEnd: "info"}});
    new DataTable("#clusters", {...shared, language: {emptyTable: "There is no cluster."}});
    // A link leads to a row, which the filter may have taken out of the page.
    document.addEventListener("click", (event) => {
        const link = event.target.closest("a[href^='#s-']");
        if (link && !document.querySelector(link.hash)) {
            servers.search("").draw();
        }
    });
    // On paper nothing can be opened.
    addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => one.setAttribute("open", "")));
} finally {
    document.documentElement.classList.remove("loading");
}
