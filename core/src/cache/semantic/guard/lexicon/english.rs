//! English words by what they do. Words of one line are separated by blanks; `_` joins a phrase.

/// Not compared.
pub(super) const FUNCTION: &str = "a an the this that these those there here it its i me my mine we us our ours you \
your yours he him his she her hers they them their theirs someone somebody anyone anybody everyone everybody \
something anything everything one ones oneself myself yourself himself herself itself ourselves themselves am is are was were be been being do does \
did doing done have has had having will would shall should can could may might must ought need of at in on for with as about \
if whether so such also just even ever really very quite too much many some any all both each every other own same \
please kindly tell explain describe give show know let like want wanna get got go going make made \
there's that's right well actually basically exactly currently now today's still yet already then \
hi hello hey thanks thank question answer request guys people person thing stuff lot lots kind sort type \
able possible certain ok okay etc eg ie via per";

/// Joins arguments whose order matters.
pub(super) const ARROW: &str = "to than into over onto towards toward -> => → by";

/// The same, backwards.
pub(super) const ARROW_BACK: &str = "from";

/// Joins arguments whose order does not matter, in the right company.
pub(super) const JOINT: &str = "and or vs versus & plus nor against";

/// Says that the order of arguments does not matter.
pub(super) const SYMMETRIC: &str = "difference differences differ between both compare comparison compared similarity similarities \
relationship relation";

/// Turns the meaning around. A contraction with `n't` is split before the look-up.
pub(super) const NEGATION: &str = "not no never none nobody nothing nowhere without neither cannot cant dont doesnt didnt isnt \
arent wasnt werent wont wouldnt shouldnt couldnt hasnt havent hadnt aint unable impossible except excluding";

/// Words that mean the same here.
pub(super) const SYNONYMS: &[&str] = &[
    "way method approach technique means",
    "good best great better nice top ideal perfect",
    "big large huge",
    "quick fast rapid quickly",
    "begin start commence started starting",
    "buy purchase buying purchasing",
    "phone smartphone mobile cellphone",
    "movie film",
    "car automobile",
    "job career employment",
    "kid child children",
    "photo picture image pic photograph",
    "happen occur",
    "reason cause why_do",
    "improve enhance improving",
    "important significant crucial",
    "use utilize using usage used",
    "learn study learning studying",
    "earn money_making",
    "function method_call",
    "provide supply give offer furnish",
    "remove delete eliminate removing deleting",
    "fix repair solve resolve",
    "lose reduce shed losing",
    "guy man",
    "girl woman",
    "usa us united_states america u.s. u.s.a. u.s american",
    "uk united_kingdom britain u.k. england",
    "uae united_arab_emirates",
    "app application",
    "info information",
    "program programme",
    "color colour",
    "laptop notebook",
    "company firm business",
    "college university",
    "exam examination test",
    "software programme_suite",
    "country nation",
    "doctor physician",
    "favorite favourite",
    "tip advice suggestion",
    "javascript js",
    "typescript ts",
    "kubernetes k8s",
    "postgres postgresql",
    "golang go_language",
];

/// Oppositions: two sides of a line, of which a prompt may take either.
pub(super) const POLES: &[(&str, &str)] = &[
    ("more greater larger bigger higher above exceed exceeds exceeding", "less fewer smaller lower below"),
    (
        "most maximum max highest largest biggest maximize maximise longest",
        "least minimum min lowest smallest minimize minimise shortest",
    ),
    ("before prior earlier until", "after since later afterwards"),
    (
        "enable enabled enabling activate activated activating turn_on switch_on",
        "disable disabled disabling deactivate deactivated turn_off switch_off",
    ),
    (
        "increase increased increasing increases raise raising gain gaining grow boost",
        "decrease decreased decreasing decreases lower lowering reduce reducing lose losing shrink",
    ),
    ("buy buying bought purchase purchasing", "sell selling sold"),
    ("open opening opened opens", "close closing closed closes shut"),
    (
        "start starting started begin beginning launch",
        "stop stopping stopped end ending quit terminate finish",
    ),
    (
        "add adding added insert inserting append include including",
        "remove removing removed delete deleting drop subtract exclude excluding",
    ),
    (
        "allow allowing allowed permit permitted accept accepting",
        "deny denied block blocking blocked forbid forbidden reject rejecting rejected prevent prevented ban banned",
    ),
    ("install installing installed", "uninstall uninstalling uninstalled"),
    ("import importing imported", "export exporting exported"),
    ("upload uploading uploaded", "download downloading downloaded"),
    (
        "encrypt encrypting encrypted encryption encode encoding",
        "decrypt decrypting decrypted decryption decode decoding",
    ),
    ("lock locking locked", "unlock unlocking unlocked"),
    ("connect connecting connected", "disconnect disconnecting disconnected"),
    ("upgrade upgrading upgraded", "downgrade downgrading downgraded"),
    ("subscribe subscribing subscribed", "unsubscribe unsubscribing unsubscribed"),
    ("send sending sent", "receive receiving received"),
    ("win winning won", "lose losing lost"),
    ("push pushing", "pull pulling"),
    ("lend lending lent", "borrow borrowing borrowed"),
    ("deposit depositing deposited", "withdraw withdrawing withdrawal withdrew"),
    ("love loving loves", "hate hating hates"),
    ("always", "never rarely seldom"),
    ("left", "right_side right-hand"),
    ("inside indoor indoors internal", "outside outdoor outdoors external"),
    ("first", "last"),
    ("old older oldest", "new newer newest young younger youngest"),
    ("hot hotter hottest warm", "cold colder coldest cool"),
    ("cheap cheaper cheapest", "expensive costliest pricey"),
    ("legal legally", "illegal illegally"),
    ("good best better great", "bad worst worse"),
    ("advantage advantages pros benefit benefits", "disadvantage disadvantages cons drawback drawbacks"),
    (
        "male males man men boy boys husband father son brother king",
        "female females woman women girl girls wife mother daughter sister queen",
    ),
    ("ascending", "descending"),
    ("public", "private"),
    ("true", "false"),
    ("positive", "negative"),
    ("input inputs", "output outputs"),
    ("read reading", "write writing"),
    ("create creating created build", "destroy destroying destroyed"),
    ("fast faster fastest quick", "slow slower slowest"),
    ("strong stronger strongest", "weak weaker weakest"),
    ("rich richer richest", "poor poorer poorest"),
    ("safe safer", "dangerous unsafe"),
    ("healthy", "unhealthy"),
    ("easy easiest easier", "hard hardest harder difficult"),
    ("arrive arriving arrival", "depart departing departure leave leaving"),
    ("accelerate", "decelerate"),
    ("expand expanding", "contract contracting collapse"),
    ("attach mount", "detach unmount umount"),
    ("freeze", "unfreeze thaw"),
    ("hide hiding hidden", "unhide unhiding"),
    ("follow following", "unfollow unfollowing"),
    ("north northern", "south southern"),
    ("east eastern", "west western"),
    ("up upward upwards", "down downward downwards"),
    ("synchronous sync", "asynchronous async"),
    ("inner", "outer"),
    ("even_number even_numbers", "odd_number odd_numbers"),
    ("marry married marrying", "divorce divorced divorcing"),
    ("hire hiring hired", "fire firing fired"),
    ("succeed success successful", "fail failure failed"),
];

/// What is asked for; see [`super::Ask`]. Phrases come before their words.
pub(super) const ASKS: &[(super::Ask, &str)] = &[
    (super::Ask::Why, "why how_come what_causes what_is_the_reason"),
    (super::Ask::When, "when what_time what_date what_year which_year which_day what_day"),
    (super::Ask::Where, "where which_place what_place"),
    (super::Ask::Who, "who whom whose which_person"),
    (
        super::Ask::Quantity,
        "how_many how_much how_long how_old how_far how_often how_tall how_big how_fast how_deep",
    ),
    (super::Ask::How, "how"),
    (super::Ask::What, "what which what's"),
];

/// Words of five other languages in Latin letters that no English sentence has, to tell them apart.
pub(super) const LANGUAGES: &[(u8, &str)] = &[
    (1, "what the how is are does do you which why and of can for to in"),
    (2, "el los las una qué cómo cuál dónde por para está son del puedo es que cual donde como"),
    (3, "le les des une est quoi comment quel quelle où pourquoi dans avec pour sont je vous du"),
    (4, "der die das ist wie und ich ein eine nicht wo warum welche was sind kann für mit von"),
    (5, "o os um uma qual onde porque são não você como está fazer posso é que do da"),
    (6, "il gli una che come dove perché sono non quale della può è di per con cosa"),
];
