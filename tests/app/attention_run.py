"""What `gossamer explore`, `trace` and `ioi` leave of the bundled model, small."""

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.attention import Limits, Question, attribution_data, trace_prompt
from gossamer.attention.ioi import StudyOptions, ioi_study
from gossamer.report.ioi import write_ioi

PROMPT = "The boys near the dog"
OPTIONS = StudyOptions(
    prompts=16, templates=("park_said", "store_said", "store_gave", "garden_gave"), connectives=(" or",), layers=1
)


def write_attention(folder):
    """explore.json, trace.json and ioi/; returns the three."""
    model = LanguageModel.load("bundled:spool", device="cpu")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    questions = [Question(PROMPT, " are", " is"), Question("The girl saw the boys")]
    explored = attribution_data(model, dictionaries, questions, limits=Limits(latents=4, terms=16, scores=16))
    explored.save(folder / "explore.json")
    traced = trace_prompt(model, dictionaries, PROMPT, answer=" are", wrong=" is", nodes=12, check=True)
    traced.save(folder / "trace.json")
    study = ioi_study(model, None, [], options=OPTIONS, only=("ability", "patching", "noising"), folder=folder / "ioi")
    write_ioi(study, folder / "ioi")
    return explored, traced, study
