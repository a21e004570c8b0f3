"""OSM: "Towards Open-Ended Visual Recognition with Large Language Model" (ECCV 2024)."""
