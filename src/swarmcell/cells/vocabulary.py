"""What manufacturers and papers call the same thing: synonyms of markers, and fluorochromes that stand beside them."""

# Names of one molecule; the first is shown. Human and mouse; from HCDM's CD list (hcdm.org).
SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("CD62L", "L-selectin", "SELL"),
    ("CD95", "FAS"),
    ("CD115", "CSF1R"),
    ("CD117", "c-Kit", "KIT"),
    ("CD123", "IL-3Ra"),
    ("CD127", "IL-7Ra", "IL7R"),
    ("CD134", "OX40"),
    ("CD135", "FLT3"),
    ("CD137", "4-1BB"),
    ("CD150", "SLAM", "SLAMF1"),
    ("CD152", "CTLA-4"),
    ("CD183", "CXCR3"),
    ("CD184", "CXCR4"),
    ("CD185", "CXCR5"),
    ("CD194", "CCR4"),
    ("CD195", "CCR5"),
    ("CD196", "CCR6"),
    ("CD197", "CCR7"),
    ("CD223", "LAG-3"),
    ("CD274", "PD-L1"),
    ("CD278", "ICOS"),
    ("CD279", "PD-1"),
    ("CD294", "CRTH2"),
    ("CD335", "NKp46"),
    ("CD366", "TIM-3"),
    ("B220", "CD45R"),
    ("CD16/32", "CD16/CD32"),
    ("HLA-DR", "HLADR"),
    ("MHC-II", "MHCII", "I-A/I-E", "IA/IE", "MHC class II"),
    ("Sca-1", "Ly-6A/E", "Ly6A"),
    ("TCRgd", "gdTCR", "TCR-gamma-delta"),
    ("TCRab", "abTCR", "TCR-alpha-beta"),
    ("Ki-67", "MKI67"),
    ("T-bet", "TBX21"),
    ("RORgt", "RORC"),
)
GREEK = str.maketrans(
    {
        "\N{GREEK SMALL LETTER ALPHA}": "a",
        "\N{GREEK SMALL LETTER BETA}": "b",
        "\N{GREEK SMALL LETTER GAMMA}": "g",
        "\N{GREEK SMALL LETTER DELTA}": "d",
        "\N{GREEK SMALL LETTER EPSILON}": "e",
        "\N{GREEK SMALL LETTER ZETA}": "z",
        "\N{GREEK SMALL LETTER KAPPA}": "k",
        "\N{GREEK SMALL LETTER LAMDA}": "l",
        "\N{GREEK SMALL LETTER MU}": "u",
    }
)
_SEP = r"[-_ .]?"
_FLUOROCHROMES = (
    rf"PerCP(?:{_SEP}(?:Cy{_SEP}5{_SEP}5|eF(?:luor)?{_SEP}710))?",
    rf"PE{_SEP}(?:Cy{_SEP}5{_SEP}5|Cy{_SEP}[57]|CF{_SEP}594|Texas{_SEP}Red|TR|Dazzle{_SEP}\d*|Alexa{_SEP}Fluor{_SEP}\d+|eF(?:luor)?{_SEP}\d+|Vio\d+)",
    rf"APC{_SEP}(?:Cy{_SEP}[57]|H{_SEP}7|R{_SEP}700|Fire{_SEP}\d+|eF(?:luor)?{_SEP}\d+|e\d+|Vio\d+|A\d+)",
    rf"(?:AF|Alexa(?:{_SEP}Fluor)?[^A-Za-z0-9]*){_SEP}\d{{3}}",
    rf"(?:BD{_SEP})?(?:BV|BUV|BB|BYG|RB|RY|R|SB|Qdot|QD|DL|DyLight|eFluor|eF|cFluor|CF|Atto|Vio|Spark{_SEP}\w+){_SEP}\d{{3}}",
    rf"(?:BD{_SEP})?(?:Horizon{_SEP})?V{_SEP}(?:450|500)|Vio(?:Blue|Green|Bright)",
    rf"Pacific{_SEP}(?:Blue|Orange)|PacBlue|PB|Am{_SEP}Cyan|Kr(?:ome{_SEP})?O(?:range)?|e450",
    rf"PC{_SEP}5{_SEP}5|PC[57]|ECD|Cy{_SEP}[357]|FITC|PE|APC|TRITC",
    r"SA|Streptavidin|Biotin|Bio",
)
FLUOROCHROME = "|".join(f"(?:{pattern})" for pattern in _FLUOROCHROMES)
