"""The columns of the tables that need no run: the paper's Figure 3, and the audit of costs."""

from reports.docs.columns import CLOSED_FORM, MACS, MACS_PER_CALL, PARAMETERS, Column, Table

EXECUTED, FVCORE = "closed form, diffussm/cost/executed.py", "fvcore with diffussm/cost/handles.py"
FIGURE_3, AUDIT = "reports/paper/figure_3.py", "diffussm/cost/audit.py"

DOCUMENT_TABLES = (
    Table(
        "paper/figure_3.csv",
        "a model at a resolution, followed by the costs that the paper's table implies",
        (
            Column("model", "size and variant, or the model of a reported total", "-", FIGURE_3),
            Column(
                "resolution",
                "resolution of the images; latents have an eighth of it",
                "pixels per side",
                FIGURE_3,
            ),
            Column("tokens", "L: latent tokens at patch 1", "tokens", CLOSED_FORM),
            PARAMETERS,
            MACS_PER_CALL._replace(source=f"{CLOSED_FORM}; reported: reports/published/imagenet.csv"),
            Column("dense", "MACs in dense layers", MACS, CLOSED_FORM),
            Column("mixer", "of them in mixers, attention's projections included", MACS, CLOSED_FORM),
            Column("attention_products", "of them 2 D L^2 in each block: all that the paper counts", MACS, CLOSED_FORM),
        ),
    ),
    Table(
        "docs/cost_audit.csv",
        "a named model and, if it has S4D, a backend",
        (
            Column("model", "its name", "-", "diffussm/cost/named.py"),
            Column("backend", "backend of S4D; empty where there is no S4D", "-", "diffussm/ssm/backends.py"),
            Column("per_image", "MACs of a call on one image, as executed", MACS, EXECUTED),
            Column("per_image_fvcore", "the same as counted", MACS, FVCORE),
            Column("fixed", "MACs per call that do not depend on the batch", MACS, EXECUTED),
            Column("fixed_fvcore", "the same as counted", MACS, FVCORE),
            Column("products", "of per_image: matrix products, attention", MACS, EXECUTED),
            Column("products_torch", "the same as counted", MACS, "torch's FlopCounterMode"),
            Column("residue_fvcore", "per_image_fvcore / per_image - 1", "1", AUDIT),
            Column("residue_torch", "products_torch / products - 1", "1", AUDIT),
        ),
    ),
)
