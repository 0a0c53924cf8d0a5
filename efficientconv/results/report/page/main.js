// The start of everything.

fillMenu();
startScatter();
addSection("configurations", drawConfigurations);
startSearch();
startCurves();
startRuns();
startCompare();
addSection("tables", drawTables);
startDetails();
rememberControls("tier", "data-set", "model", "words");
readAddress();
startFilters();
applyFilters();
if (!picked.size) pickSome();

// An address that was typed or pasted, or the way back.
addEventListener("hashchange", () => location.reload());
