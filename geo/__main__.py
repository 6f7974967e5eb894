"""`python -m geo`: wiring only. The one file of this package that knows who keeps the areas."""

from alerting.area_command import app

if __name__ == "__main__":
    app(prog_name="python -m geo")
