// What is not shown is not laid out: once, when the tables are ready, is enough.
document.documentElement.classList.add("loading");
