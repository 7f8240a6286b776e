"""The columns of the tables that need no run: the paper's Figure 3, and the audit of costs."""

from reports.docs.columns import CLOSED_FORM, MACS, MACS_PER_CALL, PARAMETERS, Column, Table

DOCUMENT_TABLES = (
    Table(
        "paper/figure_3.csv",
        "a model at a resolution, followed by the costs that the paper's table implies",
        (
            Column("model", "size and variant, or the model of a reported total", "-", "reports/paper/figure_3.py"),
            Column(
                "resolution",
                "resolution of the images; latents have an eighth of it",
                "pixels a side",
                "reports/paper/figure_3.py",
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
            Column("backend", "backend of S4D; empty where there is no S4D", "-", "diffussm/ssm/choice.py"),
            Column(
                "per_image", "MACs of a call on one image, as executed", MACS, "closed form, diffussm/cost/executed.py"
            ),
            Column("per_image_fvcore", "the same as counted", MACS, "fvcore with diffussm/cost/handles.py"),
            Column(
                "fixed", "MACs per call that do not depend on the batch", MACS, "closed form, diffussm/cost/executed.py"
            ),
            Column("fixed_fvcore", "the same as counted", MACS, "fvcore with diffussm/cost/handles.py"),
            Column(
                "products", "of per_image: matrix products, attention", MACS, "closed form, diffussm/cost/executed.py"
            ),
            Column("products_torch", "the same as counted", MACS, "torch's FlopCounterMode"),
            Column("residue_fvcore", "per_image_fvcore / per_image - 1", "1", "diffussm/cost/audit.py"),
            Column("residue_torch", "products_torch / products - 1", "1", "diffussm/cost/audit.py"),
        ),
    ),
)
