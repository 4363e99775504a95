"""The Compare tab: one message, answered side by side in two to four columns with settings of their own."""
