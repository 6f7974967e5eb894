"""What an alert is, who may issue it, and the promise that it will be said."""
