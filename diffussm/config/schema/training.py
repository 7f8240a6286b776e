"""The diffusion process, and the optimisation."""

from typing import Literal, Self

from pydantic import Field, model_validator

from diffussm.config.schema.model import Backend
from diffussm.config.schema.types import Count, Positive, Section

Checkpointing = Literal["none", "block"]
Compilation = Literal["none", "block"]


class DiffusionConfig(Section):
    """The diffusion process and its loss."""

    # At 20 the last beta of the linear schedule would be 1.
    timesteps: int = Field(
        1000,
        ge=21,
        description="T, steps of the forward process; its betas lie at equal distances, from 1e-4 to 0.02 at T = 1000",
    )
    learned_variance: bool = Field(
        True, description="whether the network predicts the variance of the reverse process too"
    )
    loss: Literal["hybrid", "simple"] = Field(
        "hybrid",
        description="simple: error of the noise; hybrid: also the variational bound (Nichol and Dhariwal 2021)",
    )
    normal_cdf: Literal["exact", "tanh"] = Field(
        "exact",
        description="distribution function in the hybrid loss of step 0; ADM and DiT train with the tanh approximation",
    )

    @model_validator(mode="after")
    def _loss_has_its_parts(self) -> Self:
        if (self.loss == "hybrid") != self.learned_variance:
            raise ValueError("loss: hybrid needs learned_variance = true, simple needs false")
        if self.loss == "simple" and self.normal_cdf != "exact":
            raise ValueError("normal_cdf: used by loss = hybrid alone")
        return self


class TrainingConfig(Section):
    """Optimisation, and how long and on what it runs."""

    batch: Positive = Field(128, description="images in a training step, over all processes together")
    lr: float = Field(1e-4, gt=0, description="learning rate of AdamW, constant but for warmup and lr_decay_start")
    warmup: Count = Field(0, description="steps in which the learning rate rises linearly to lr; 0: none")
    lr_decay_start: Count = Field(
        0,
        description="step t0 from which the learning rate is lr x sqrt(t0 / step) (Karras et al. 2024); 0: none",
    )
    clip: float = Field(0.0, ge=0, description="largest norm of all gradients together; larger ones are scaled; 0: any")
    ssm_lr_scale: float = Field(
        1.0, ge=0, description="factor on the learning rate for the parameters of state-space layers"
    )
    weight_decay: float = Field(
        0.0, ge=0, description="weight decay of AdamW; parameters of state-space layers have none"
    )
    ema: float = Field(0.9999, ge=0, lt=1, description="decay of the moving average of the weights")
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="probability of training an image without its class, for classifier-free guidance"
    )
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32",
        description="float32; tf32: float32 with products of TF32 on GPUs; bf16: autocast, with weights in float32",
    )
    # What follows does not change the trajectory.
    steps: Positive = Field(1, description="number of training steps; a larger number later extends the same run")
    milestones: tuple[Positive, ...] = Field(
        (), description="steps at which the weights are kept and evaluated; the last step always is one"
    )
    checkpoint_minutes: float = Field(
        1.0, ge=0, description="longest time between two checkpoints, which are written beside the training"
    )
    threads: Count = Field(0, description="threads of torch on the CPU; 0: all cores")
    backend: Literal["auto", Backend] = Field(
        "auto", description="how S4D is computed; auto: by the fastest backend that runs here"
    )
    compile: Compilation = Field(
        "none",
        description="block: torch.compile makes one graph of each block, with S4D as an operator in it; needs a C++ "
        "compiler",
    )
    checkpointing: Checkpointing = Field(
        "none",
        description="block: what autograd would keep of a block is computed again in the backward pass, which takes a "
        "third more time and little memory",
    )
    micro_batch: Count = Field(
        0, description="most images that a process computes at once, one part of the batch after another; 0: all of its"
    )
