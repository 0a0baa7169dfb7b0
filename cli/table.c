/* Everything that a user can type. */
#include "commands.h"

const cli_option cli_options[CLI_OPTION_COUNT] = {
    [CLI_DATA] = {"data", "PATH",
                  "a text file, a folder of text files, or token .bin files (data.path)",
                  CLI_KIND_FILE, 'd'},
    [CLI_SET] = {"set", "KEY=VALUE", "set a parameter; beats environment and file; may be repeated",
                 CLI_KIND_KEY, 's'},
    [CLI_RUN_DIR] = {"run-dir", "DIR",
                     "folder of the run (default: runs/ and CONFIG's name without its ending)",
                     CLI_KIND_FOLDER, 'o'},
    [CLI_RESUME] =
        {"resume", "auto|CKPT",
         "go on from the newest checkpoint of the run's folder, or from CKPT (a file, or the "
         "folder of another run)",
         CLI_KIND_FILE, 'r'},
    [CLI_RESOLVED] = {"resolved", NULL,
                      "show what conflicts between values are resolved to, and why", CLI_KIND_NONE,
                      0},
    [CLI_STRICT] = {"strict", NULL,
                    "refuse to start where a value that you set would have to be moved",
                    CLI_KIND_NONE, 0},
    [CLI_DRY_RUN] = {"dry-run", NULL, "show what the run would take, and write nothing",
                     CLI_KIND_NONE, 'n'},
    [CLI_CONFIG] = {"config", "CONFIG",
                    "the configuration to harm (default: a small built-in model)", CLI_KIND_FILE,
                    'c'},
    [CLI_STEPS] = {"steps", "N", "steps of each run (default: what it takes)", CLI_KIND_NONE, 0},
    [CLI_ROUNDS] = {"rounds", "N",
                    "how often each fault is made (default: 50) or each kernel timed (default: 7)",
                    CLI_KIND_NONE, 0},
    [CLI_SECONDS] = {"seconds", "S", "report what is known after about S seconds", CLI_KIND_NONE,
                     0},
    [CLI_LOSS] = {"loss", "LIMIT", "a step with a larger loss is bad, whatever the gates say",
                  CLI_KIND_NONE, 0},
    [CLI_HELD_OUT] = {"held-out", "PERCENT",
                      "a step is bad that brings the held-out loss by more than PERCENT above its "
                      "lowest",
                      CLI_KIND_NONE, 0},
    [CLI_KEEP] = {"keep", "DIR", "run in DIR, which must be new or empty, and leave it there",
                  CLI_KIND_FOLDER, 0},
    [CLI_OPS] = {"ops", "OP,OP...", "only these operations", CLI_KIND_NONE, 0},
    [CLI_SHAPE] = {"shape", "OP:SIZES",
                   "this shape instead, as in linear_forward:1024,2304,768; several with blanks "
                   "between them",
                   CLI_KIND_NONE, 0},
    [CLI_PLOT] = {"plot", "FILE", "draw a roofline plot, .svg or .png (needs gnuplot)",
                  CLI_KIND_FILE, 0},
    [CLI_EXPLAIN] = {"explain", NULL, "show every candidate, and why it was not chosen",
                     CLI_KIND_NONE, 'e'},
    [CLI_BUDGET] = {"budget", "S", "measure for at most S seconds (default: kernels.tune_seconds)",
                    CLI_KIND_NONE, 'b'},
    [CLI_VERIFY] = {"verify", NULL,
                    "measure again what was measured before, and report differences", CLI_KIND_NONE,
                    0},
    [CLI_EXPORT] = {"export", "FILE", "put a copy of what was measured into FILE", CLI_KIND_FILE,
                    0},
    [CLI_IMPORT] = {"import", "FILE", "take what was measured from FILE", CLI_KIND_FILE, 0},
    [CLI_CLEAR] = {"clear", NULL, "forget everything that was measured on this machine",
                   CLI_KIND_NONE, 0},
    [CLI_LIST] = {"list", NULL, "list the scenarios", CLI_KIND_NONE, 'l'},
    [CLI_PROMPT] = {"prompt", "TEXT|-",
                    "text to go on from; - reads standard input (default: a line break)",
                    CLI_KIND_NONE, 'p'},
    [CLI_TOKENS] = {"tokens", "N",
                    "how many to generate (default: the checkpoint's sample.tokens, or 256)",
                    CLI_KIND_NONE, 't'},
    [CLI_TEMPERATURE] = {"temperature", "X",
                         "0 always takes the likeliest token (default: sample.temperature)",
                         CLI_KIND_NONE, 'T'},
    [CLI_TOP_K] = {"top-k", "K", "sample among the K likeliest; 0: all (default: sample.top_k)",
                   CLI_KIND_NONE, 'k'},
    [CLI_SEED] = {"seed", "N", "the same seed gives the same text (default: 1)", CLI_KIND_NONE, 0},
    [CLI_JSON] = {"json", NULL, "print the result as one JSON object", CLI_KIND_NONE, 'j'},
    [CLI_QUIET] = {"quiet", NULL, "no progress and no summary; warnings and errors only",
                   CLI_KIND_NONE, 'q'},
    [CLI_MAN] = {"man", NULL, "print the manual page (roff)", CLI_KIND_NONE, 0},
    [CLI_COMPLETION] = {"completion", NULL, "print the completion script for bash", CLI_KIND_NONE,
                        0},
    [CLI_HELP] = {"help", NULL, "show help", CLI_KIND_NONE, 'h'},
    [CLI_VERSION] = {"version", NULL, "show the version", CLI_KIND_NONE, 'V'},
};

static const char *const run_examples[] = {
    "trimtab run examples/quickstart.yaml --data books/",
    "train on the text files below books/",
    "trimtab run examples/quickstart.yaml --resume auto",
    "go on with that run, to the bit as if it had never stopped",
    "trimtab run a.yaml --set train.steps=50 --run-dir /tmp/a",
    "a short trial in a folder of its own",
    NULL,
};

static const char *const generate_examples[] = {
    "trimtab generate runs/quickstart --prompt 'It was'",
    "go on from a prompt with the newest checkpoint of a run",
    NULL,
};

static const char *const inspect_examples[] = {
    "trimtab inspect runs/quickstart --json | jq '.decisions[] | select(.kind==\"trip\")'",
    "every gate that tripped on the way to the newest checkpoint",
    NULL,
};

static const char *const verify_examples[] = {
    "trimtab verify runs/*/checkpoints/*.h5",
    "check every checkpoint of every run",
    NULL,
};

static const char *const diff_examples[] = {
    "trimtab diff runs/a runs/b && echo reproduced",
    "did two runs end with the same bits?",
    NULL,
};

static const char *const drill_examples[] = {
    "trimtab drill",
    "does this machine lose anything?",
    "trimtab drill kill full-disk --config a.yaml --data books/",
    "two scenarios, with your own model, data and optimizations",
    NULL,
};

static const char *const explain_examples[] = {
    "trimtab config explain optim.learning_rate examples/quickstart.yaml",
    "which value counts, from which line, and what it beats",
    "trimtab config explain --resolved a.yaml -s run.memory_budget=100000000",
    "who yields, and why, so that the run fits into 100 MB",
    NULL,
};

static const char *const list_examples[] = {
    "trimtab config list optim.",
    "the optimizer's parameters",
    NULL,
};

static const char *const gate_list_examples[] = {
    "trimtab gate list a.yaml",
    "the limits that a.yaml sets",
    NULL,
};

static const char *const calibrate_examples[] = {
    "trimtab gate calibrate a.yaml --data books/",
    "what the gates would see, and how often they trip for nothing, in this run",
    "trimtab gate calibrate a.yaml --resume runs/a -s gates.spike.max=6",
    "the same from its newest checkpoint, with another limit",
    NULL,
};

static const char *const bisect_examples[] = {
    "trimtab bisect runs/a",
    "where did it go wrong, in which tensor and sample, and through what?",
    "trimtab bisect runs/a --loss 4",
    "the same for a run that no gate stopped, but whose loss went above 4",
    NULL,
};

static const char *const tune_examples[] = {
    "trimtab tune examples/gpt2-124m.yaml",
    "which tile and variants would its run get, and what are they worth?",
    "trimtab tune a.yaml --explain -s kernels.numerics=repeatable",
    "every candidate, OpenBLAS and oneDNN among those that may be chosen",
    NULL,
};

static const char *const bench_examples[] = {
    "trimtab bench kernels a.yaml --plot roofline.svg",
    "what the kernels make of this machine, on the shapes of a.yaml",
    "trimtab bench kernels --shape 'linear_forward:256,768,768 adamw:1000000'",
    "two operations at sizes of one's own",
    NULL,
};

#define COMMON CLI_BIT(CLI_HELP)

const cli_command cli_commands[] = {
    {"run", "CONFIG", 1, 1, CLI_KIND_FILE,
     CLI_BIT(CLI_DATA) | CLI_BIT(CLI_SET) | CLI_BIT(CLI_RUN_DIR) | CLI_BIT(CLI_RESUME) |
         CLI_BIT(CLI_STRICT) | CLI_BIT(CLI_DRY_RUN) | CLI_BIT(CLI_JSON) | CLI_BIT(CLI_QUIET) |
         COMMON,
     "train a model as CONFIG says",
     "Trains a model as the YAML file CONFIG says. A value may also come from the environment "
     "(TRIMTAB_OPTIM__LEARNING_RATE) or from --set, which beats both; `trimtab config explain` "
     "says which one counts.\n\n"
     "Everything about the run is in its folder: metrics, decisions, the values in force with "
     "their origins, and checkpoints. A new run never writes into a folder that holds one.\n\n"
     "SIGINT (Ctrl-C), SIGTERM and SIGUSR1 end the run after the step in hand: the state is "
     "saved and the exit code is 75, so that a scheduler knows to start it again with --resume "
     "auto. A second Ctrl-C ends it at once, with what the last checkpoint holds.",
     run_examples, cmd_run},
    {"generate", "CKPT", 1, 1, CLI_KIND_FILE,
     CLI_BIT(CLI_PROMPT) | CLI_BIT(CLI_TOKENS) | CLI_BIT(CLI_TEMPERATURE) | CLI_BIT(CLI_TOP_K) |
         CLI_BIT(CLI_SEED) | COMMON,
     "generate text from a checkpoint",
     "Prints what the model goes on with after the prompt, and not the prompt itself. CKPT may be "
     "the folder of a run: then its newest checkpoint.\n\n"
     "A model of bytes prints bytes, with control characters escaped on a terminal only; any "
     "other vocabulary prints token numbers.",
     generate_examples, cmd_generate},
    {"inspect", "CKPT", 1, 1, CLI_KIND_FILE, CLI_BIT(CLI_JSON) | COMMON,
     "show what is in a checkpoint",
     "Shows header, tensors with types, shapes and norms, the build and machine that made it, its "
     "configuration with the origin of each value, and every decision of the run. CKPT may be the "
     "folder of a run: then its newest checkpoint. The file is verified first.",
     inspect_examples, cmd_inspect},
    {"verify", "CKPT...", 1, CLI_ANY_NUMBER, CLI_KIND_FILE, CLI_BIT(CLI_JSON) | COMMON,
     "check that checkpoints are intact and harmless",
     "Checks digests and structure of each file and prints a line for it. The exit code is 65 if "
     "one of them is corrupt or asks for something dangerous.",
     verify_examples, cmd_verify},
    {"diff", "A B", 2, 2, CLI_KIND_FILE, CLI_BIT(CLI_JSON) | COMMON,
     "compare the tensors of two checkpoints",
     "Prints, for every tensor that differs, how many elements differ, the largest absolute "
     "difference, the largest distance in units of the last place (ULP) and the cosine. The exit "
     "code is 0 if all bits are the same and 1 if not.",
     diff_examples, cmd_diff},
    {"drill", "[SCENARIO...]", 0, CLI_ANY_NUMBER, CLI_KIND_SCENARIO,
     CLI_BIT(CLI_CONFIG) | CLI_BIT(CLI_DATA) | CLI_BIT(CLI_SET) | CLI_BIT(CLI_STEPS) |
         CLI_BIT(CLI_KEEP) | CLI_BIT(CLI_LIST) | CLI_BIT(CLI_JSON) | CLI_BIT(CLI_QUIET) | COMMON,
     "harm runs on purpose, and see what becomes of them",
     "Makes runs in a scratch folder (below TMPDIR), each in a process of its own, plants a fault "
     "in each, and judges: was it noticed, was the right thing blamed, is everything still there? "
     "The yardstick is a run with the same settings and no fault: what is transient, and all that "
     "happens to disk, clock and process, must end with the same bits; what lasts may cost at most "
     "1 % of the final loss.\n\n"
     "Without --config a small built-in model runs, with every optimization on. The exit code is 1 "
     "if anything was lost.",
     drill_examples, cmd_drill},
    {"bisect", "RUN", 1, 1, CLI_KIND_FILE,
     CLI_BIT(CLI_DATA) | CLI_BIT(CLI_LOSS) | CLI_BIT(CLI_HELD_OUT) | CLI_BIT(CLI_JSON) | COMMON,
     "find the first bad step of a run, and its cause",
     "RUN is the folder of a run that was stopped by a gate, or that went wrong unnoticed. Goes "
     "over its checkpoints from the oldest to the newest and replays, with the run's own "
     "configuration, data and decisions, from the last good one until a gate trips. Then names the "
     "tensor, the sequence of the batch, and what the search for the culprit finds. All of it "
     "happens in a scratch folder (below TMPDIR); RUN is only read.\n\n"
     "The exit code is 1 if a bad step was found and 0 if not.",
     bisect_examples, cmd_bisect},
    {"tune", "[CONFIG]", 0, 1, CLI_KIND_FILE,
     CLI_BIT(CLI_SET) | CLI_BIT(CLI_EXPLAIN) | CLI_BIT(CLI_BUDGET) | CLI_BIT(CLI_VERIFY) |
         CLI_BIT(CLI_EXPORT) | CLI_BIT(CLI_IMPORT) | CLI_BIT(CLI_CLEAR) | CLI_BIT(CLI_JSON) |
         COMMON,
     "choose the kernels for a configuration's matrix products",
     "Proves every candidate (a variant with a tile) on the products of CONFIG, times those that "
     "are right, and shows what a run would get: throughput, its share of the peak that this "
     "machine reaches in the same run, and the gain over the default tile. Long products are "
     "measured in part.\n\n"
     "What was measured is kept for the next run (kernels.tune_cache), for as long as machine, "
     "build, libraries and products stay the same. The exit code of --verify is 1 if it does not "
     "hold any more.",
     tune_examples, cmd_tune},
    {"bench kernels", "[CONFIG]", 0, 1, CLI_KIND_FILE,
     CLI_BIT(CLI_SET) | CLI_BIT(CLI_OPS) | CLI_BIT(CLI_SHAPE) | CLI_BIT(CLI_PLOT) |
         CLI_BIT(CLI_ROUNDS) | CLI_BIT(CLI_JSON) | COMMON,
     "time every kernel beside the machine's peaks",
     "Times every variant of each operation on the shapes of CONFIG (a step's, and decoding), in "
     "f32 and in bf16; without CONFIG on those of GPT-2. All variants take turns, round by round, "
     "and medians count. Tiled ones run with the tile that was fastest of six.\n\n"
     "Matrix products and attention are shown in GFLOP/s, with their share of the multiply-adds "
     "that this machine does from registers (bf16: with AMX or AVX512-BF16, where it has them). All others, "
     "and products of a few rows, in GB/s of what must move at least, read from memory and not from "
     "caches, with their share of the bandwidth of reading or copying. These peaks are measured in "
     "the same run. Where OpenBLAS or oneDNN is there, x says how many times as fast ours is.",
     bench_examples, cmd_bench_kernels},
    {"config explain", "[KEY] [CONFIG]", 0, 2, CLI_KIND_KEY,
     CLI_BIT(CLI_DATA) | CLI_BIT(CLI_SET) | CLI_BIT(CLI_RESOLVED) | CLI_BIT(CLI_STRICT) |
         CLI_BIT(CLI_JSON) | COMMON,
     "where a value comes from",
     "Shows the value that counts, where it comes from and every value that it beats, highest "
     "precedence first, and what the parameter does. Without CONFIG: what defaults, environment and "
     "--set amount to.\n\n"
     "With --resolved: the value that a run would start with after conflicts were resolved (tile "
     "sizes first, then compression, then RLVR; run.memory_budget is kept), what was requested, why "
     "it moved, and advice. Without KEY: every parameter that can move. With --strict, a value "
     "that you set and that would have to move is an error.",
     explain_examples, cmd_config_explain},
    {"config list", "[PREFIX]", 0, 1, CLI_KIND_KEY, COMMON, "list parameters with their defaults",
     "PREFIX selects the parameters whose names begin with it.", list_examples, cmd_config_list},
    {"config reference", "", 0, 0, CLI_KIND_NONE, COMMON,
     "print the parameter reference (Markdown)", "", NULL, cmd_config_reference},
    {"gate list", "[CONFIG]", 0, 1, CLI_KIND_FILE, CLI_BIT(CLI_SET) | CLI_BIT(CLI_JSON) | COMMON,
     "list the safety gates with their limits",
     "Shows, for every gate, what it watches, when it is armed, on what it trips, the limit that "
     "CONFIG sets (the default without one), and the parameters that set it.",
     gate_list_examples, cmd_gate_list},
    {"gate calibrate", "CONFIG", 1, 1, CLI_KIND_FILE,
     CLI_BIT(CLI_DATA) | CLI_BIT(CLI_SET) | CLI_BIT(CLI_RESUME) | CLI_BIT(CLI_STEPS) |
         CLI_BIT(CLI_ROUNDS) | CLI_BIT(CLI_SECONDS) | CLI_BIT(CLI_JSON) | COMMON,
     "measure what the gates see in your own run",
     "Trains as CONFIG says, in a scratch folder (below TMPDIR), until the gates are armed: 256 "
     "steps or more. Then faults of graded size are made in forks of the run, each on many "
     "batches, and the gates are asked: what share do they see, with a 95 % interval, and how "
     "often do they trip on steps without a fault?\n\n"
     "With --resume it begins at a checkpoint (a file, or the folder of a run), which stays as it "
     "is. Nothing is kept of any of it.",
     calibrate_examples, cmd_gate_calibrate},
    {"help", "[COMMAND]", 0, 2, CLI_KIND_WORD, CLI_BIT(CLI_MAN) | CLI_BIT(CLI_COMPLETION) | COMMON,
     "show help for a command", "", NULL, cmd_help},
};

const size_t cli_command_count = sizeof cli_commands / sizeof *cli_commands;
