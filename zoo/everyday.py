"""What people call a thing that Unicode calls otherwise: *ladybug*, not *lady beetle*.

CLDR's names tell each emoji from all others (*oncoming automobile*, *closed book*), which nobody
does who is asked what this is: the word that comes first is the basic level's (Rosch et al. 1976).
Image tokens and CLIP keep CLDR's names, which are one to a concept; stage 2 tells these where it is
asked for the name of a single drawing.
"""

from __future__ import annotations

EVERYDAY = {
    # animals and plants
    "lady beetle": "ladybug", "honeybee": "bee", "two-hump camel": "camel", "ewe": "sheep",
    "baby chick": "chick", "front-facing baby chick": "chick", "spouting whale": "whale",
    "sauropod": "dinosaur", "T-Rex": "dinosaur", "spiral shell": "shell", "dog face": "dog",
    "cat face": "cat", "horse face": "horse", "cow face": "cow", "pig face": "pig",
    "mouse face": "mouse", "rabbit face": "rabbit", "monkey face": "monkey", "tiger face": "tiger",
    "dragon face": "dragon", "blossom": "flower", "deciduous tree": "tree", "fallen leaf": "leaf",
    "brown mushroom": "mushroom",
    # food
    "tangerine": "orange", "ear of corn": "corn", "leafy green": "lettuce", "kiwi fruit": "kiwi",
    "cheese wedge": "cheese", "hot beverage": "coffee", "glass of milk": "milk",
    "cocktail glass": "cocktail", "kitchen knife": "knife", "shortcake": "cake",
    "soft ice cream": "ice cream", "baguette bread": "baguette", "doughnut": "donut",
    "pot of food": "pot", "bowl with spoon": "bowl",
    "teacup without handle": "cup", "tumbler glass": "glass",
    # on the road, on rails, afloat, in the air
    "automobile": "car", "oncoming automobile": "car", "racing car": "race car",
    "fire engine": "fire truck", "articulated lorry": "truck", "delivery truck": "truck",
    "trolleybus": "bus", "oncoming bus": "bus", "oncoming taxi": "taxi", "minibus": "van",
    "tram car": "tram", "locomotive": "train",
    "high-speed train": "train", "bullet train": "train", "kick scooter": "scooter",
    "motor scooter": "scooter", "manual wheelchair": "wheelchair", "motor boat": "boat",
    "motorized wheelchair": "wheelchair", "horizontal traffic light": "traffic light",
    "vertical traffic light": "traffic light", "passenger ship": "ship",
    "small airplane": "airplane",
    # houses, sky, weather
    "house with garden": "house", "waxing crescent moon": "moon",
    "waning crescent moon": "moon", "waxing gibbous moon": "moon",
    "waning gibbous moon": "moon", "ringed planet": "planet", "glowing star": "star",
    "globe showing Americas": "globe", "globe showing Asia-Australia": "globe",
    "globe showing Europe-Africa": "globe", "umbrella with rain drops": "umbrella",
    "closed umbrella": "umbrella", "snowman without snow": "snowman", "high voltage": "lightning",
    # clothes
    "running shoe": "shoe", "man’s shoe": "shoe", "flat shoe": "shoe", "woman’s sandal": "sandal",
    "woman’s boot": "boot", "woman’s hat": "hat", "billed cap": "cap",
    "one-piece swimsuit": "swimsuit", "rescue worker’s helmet": "helmet",
    "military helmet": "helmet",
    # things
    "wrapped gift": "gift", "game die": "dice", "sewing needle": "needle",
    "studio microphone": "microphone", "musical keyboard": "piano",
    "long drum": "drum", "desktop computer": "computer", "optical disk": "cd",
    "telephone receiver": "telephone", "camera with flash": "camera", "framed picture": "picture",
    "magnifying glass tilted left": "magnifying glass",
    "magnifying glass tilted right": "magnifying glass", "closed book": "book",
    "green book": "book", "blue book": "book", "orange book": "book", "diya lamp": "lamp",
    "notebook with decorative cover": "notebook", "envelope with arrow": "envelope",
    "incoming envelope": "envelope", "closed mailbox with raised flag": "mailbox",
    "closed mailbox with lowered flag": "mailbox", "open mailbox with raised flag": "mailbox",
    "open mailbox with lowered flag": "mailbox", "postbox": "mailbox", "black nib": "pen",
    "linked paperclips": "paperclip", "round pushpin": "pushpin", "straight ruler": "ruler",
    "triangular ruler": "ruler", "spiral notepad": "notepad", "wastebasket": "trash can",
    "locked": "lock", "unlocked": "lock", "locked with key": "lock", "old key": "key",
    "carpentry saw": "saw", "nut and bolt": "bolt", "balance scale": "scale",
    "adhesive bandage": "bandage", "couch and lamp": "couch", "satellite antenna": "antenna",
    "headstone": "tombstone", "sports medal": "medal", "military medal": "medal",
    "red heart": "heart", "reminder ribbon": "ribbon", "hot pepper": "pepper",
}  # fmt: skip
"""CLDR's name of an emoji -> the name that is told; several may have one."""


def said(concept: str) -> str:
    """What a drawing's concept is called who is asked what it shows."""
    return EVERYDAY.get(concept, concept)
