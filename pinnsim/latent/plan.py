"""How a latent model is made and trained: numbers a user may set, with values to start from."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=100_000)]
Weight = Annotated[float, Field(ge=0)]


class LatentPlan(BaseModel):
    """Sizes of the networks, weights of the terms of the loss, and the training.

    Weights: `predict` (the next time's embeddings), `reconstruct` (the cells themselves), `spread` and `decorrelate`
    (against collapse), `anchor` (what a kinetic model says of the decoder, where one is given), `action` (the landscape
    that adds least to pure noise, where several lead from one time to the next), `decay` (encoder and decoder near
    linear maps). `mask` is the share of readings hidden from the encoder where it reconstructs, `blur` the standard
    deviation of noise added to an embedding before it is decoded; `target_moves`: whether slopes also pass through the
    embeddings that are to be predicted, which invites collapse and is there to show it; `held`: share of the cells that
    calibrate what is out of domain;
    `neighbours`: how many training cells of the most similar depth a cell is compared with there.

    Good values: dimension 4-8; 500-2000 steps at learning rate 3e-3; 64-256 cells of each population per chunk;
    substeps of a quarter of the fastest relaxation or less. Few cells or times (some hundred, three times): dimension
    2, no swirl, 300 steps, an action of 0.01 to 0.1, chosen by leaving out a time that is not needed otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimension: Annotated[int, Field(ge=1, le=256)] = 6
    width: Count = 32
    depth: Annotated[int, Field(ge=0, le=8)] = 1
    swirl: bool = True
    steps: Annotated[int, Field(ge=0, le=1_000_000)] = 800
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    cells: Annotated[int, Field(ge=4, le=1_000_000)] = 128
    substeps: Annotated[int, Field(ge=1, le=1000)] = 8
    predict: Weight = 1.0
    reconstruct: Weight = 1.0
    spread: Weight = 1.0
    decorrelate: Weight = 0.1
    anchor: Weight = 0.1
    action: Weight = 0.0
    decay: Weight = 0.0
    mask: Annotated[float, Field(ge=0, lt=1)] = 0.2
    blur: Weight = 0.1
    target_moves: bool = False
    held: Annotated[float, Field(gt=0, lt=1)] = 0.2
    neighbours: Count = 100
    seed: Annotated[int, Field(ge=0)] = 0
