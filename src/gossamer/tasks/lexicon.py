"""The words that tasks are filled with; nouns and verbs come as (singular, plural)."""

NAMES: tuple[str, ...] = (
    *("Mary", "John", "Tom", "Anna", "Lily", "Ben", "Tim", "Sara", "Max", "Lucy", "Jack", "Emma", "Sam", "Mia"),
    *(
        "Bob",
        "Jane",
        "Billy",
        "Amy",
        "Peter",
        "Molly",
        "Joe",
        "Kate",
        "David",
        "Ella",
        "Paul",
        "Alice",
        "James",
        "Daisy",
    ),
    *("Mark", "Lisa", "Adam", "Rose", "Simon", "Laura", "Dan", "Sue", "Alex", "Grace", "Henry", "Ruth"),
)
"""Given names, women's and men's in turn as far as that goes; used by indirect object identification and as keys."""

SPARE_NAMES: tuple[str, ...] = (
    *("George", "Sarah", "Robert", "Maria", "Michael", "Susan", "Charles", "Julia", "William", "Helen", "Thomas"),
    *("Anne", "Kevin", "Jim", "Steve", "Eric", "Frank", "Rachel", "Richard", "Elizabeth"),
)
"""Names that stand in for those that a tokenizer splits."""

PLACES: tuple[str, ...] = (
    "store",
    "garden",
    "restaurant",
    "school",
    "hospital",
    "office",
    "house",
    "station",
    "park",
    "beach",
)
OBJECTS: tuple[str, ...] = (
    "ring",
    "kiss",
    "bone",
    "basketball",
    "computer",
    "necklace",
    "drink",
    "snack",
    "book",
    "ball",
)

SUBJECTS: tuple[tuple[str, str], ...] = (
    ("actor", "actors"),
    ("artist", "artists"),
    ("athlete", "athletes"),
    ("aunt", "aunts"),
    ("boy", "boys"),
    ("brother", "brothers"),
    ("captain", "captains"),
    ("carpenter", "carpenters"),
    ("coach", "coaches"),
    ("cousin", "cousins"),
    ("doctor", "doctors"),
    ("farmer", "farmers"),
    ("father", "fathers"),
    ("friend", "friends"),
    ("girl", "girls"),
    ("guy", "guys"),
    ("judge", "judges"),
    ("kid", "kids"),
    ("king", "kings"),
    ("lawyer", "lawyers"),
    ("leader", "leaders"),
    ("man", "men"),
    ("manager", "managers"),
    ("mother", "mothers"),
    ("neighbor", "neighbors"),
    ("nurse", "nurses"),
    ("pilot", "pilots"),
    ("player", "players"),
    ("poet", "poets"),
    ("queen", "queens"),
    ("singer", "singers"),
    ("sister", "sisters"),
    ("soldier", "soldiers"),
    ("student", "students"),
    ("teacher", "teachers"),
    ("uncle", "uncles"),
    ("victim", "victims"),
    ("woman", "women"),
    ("worker", "workers"),
    ("writer", "writers"),
)
SPARE_SUBJECTS: tuple[tuple[str, str], ...] = (
    ("child", "children"),
    ("author", "authors"),
    ("client", "clients"),
    ("director", "directors"),
    ("scientist", "scientists"),
    ("engineer", "engineers"),
    ("patient", "patients"),
    ("partner", "partners"),
    ("professor", "professors"),
    ("researcher", "researchers"),
    ("designer", "designers"),
    ("lady", "ladies"),
)
"""Subjects that stand in for those that a tokenizer splits."""

CLAUSE_NOUNS: tuple[tuple[str, str], ...] = (
    ("architect", "architects"),
    ("assistant", "assistants"),
    ("chef", "chefs"),
    ("dancer", "dancers"),
    ("driver", "drivers"),
    ("executive", "executives"),
    ("guard", "guards"),
    ("minister", "ministers"),
    ("parent", "parents"),
    ("skater", "skaters"),
)
SPARE_CLAUSE_NOUNS: tuple[tuple[str, str], ...] = (
    ("officer", "officers"),
    ("agent", "agents"),
    ("editor", "editors"),
    ("visitor", "visitors"),
    ("user", "users"),
    ("owner", "owners"),
    ("expert", "experts"),
    ("official", "officials"),
    ("customer", "customers"),
    ("member", "members"),
)
"""Nouns of the clause that stand in for those that a tokenizer splits."""

OBJECT_NOUNS: tuple[tuple[str, str], ...] = (
    ("bike", "bikes"),
    ("car", "cars"),
    ("cat", "cats"),
    ("chair", "chairs"),
    ("desk", "desks"),
    ("dog", "dogs"),
    ("table", "tables"),
    ("tree", "trees"),
    ("truck", "trucks"),
    ("window", "windows"),
)
CLAUSE_VERBS: tuple[tuple[str, str], ...] = (("visits", "visit"), ("hates", "hate"), ("likes", "like"))
ANSWER_VERBS: tuple[tuple[str, str], ...] = (("is", "are"), ("has", "have"), ("does", "do"), ("goes", "go"))
PREPOSITIONS: tuple[str, ...] = ("behind", "beside", "near")

LIST_NAMES: tuple[str, ...] = ("age", "scores", "values", "data", "items")
DICTIONARY_NAMES: tuple[str, ...] = ("age", "scores", "data", "height", "weight", "grades")
DIGITS: tuple[str, ...] = tuple("0123456789")
