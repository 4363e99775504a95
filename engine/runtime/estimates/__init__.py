"""What a request will cost: its work in numbers, how long that takes here, and whether such a forecast holds."""
