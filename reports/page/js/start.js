
for (const table of main.querySelectorAll("table")) addTableTools(table);
for (const figure of main.querySelectorAll("figure")) addFigureTools(figure);
const place = document.querySelector("#tools");
if (place) addFilter(place);
