setInterval(() => postMessage(0), 33);  // unlike a timer of the page, it keeps its pace while the tab is hidden
