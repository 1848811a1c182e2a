"""Copying an encoder folder into a bundle."""

import shutil
from pathlib import Path

from stale_edge.bundle.encoder_folder import ENCODER_FOLDER, EncoderBundle, contract_problems, verify_encoder
from stale_edge.bundle.feature_contract import FeatureContract
from stale_edge.bundle.manifest import MANIFEST_NAME
from stale_edge.bundle.writer import BundleWriter
from stale_edge.errors import FeatureContractError


def copy_encoder(source: Path | str, writer: BundleWriter, *, contract: FeatureContract) -> EncoderBundle:
    """Copy an encoder folder into an unfinished bundle, under `ENCODER_FOLDER`; its bytes are checked first.

    Raises:
        BundleError, VerificationError: there is no encoder, or it is damaged.
        FeatureContractError: its features differ from the contract; the message names both values.
    """
    encoder = verify_encoder(source)
    problems = contract_problems(encoder.manifest, contract)
    if problems:
        raise FeatureContractError(f"{source}: this encoder is not the one the model was trained with: {problems}")
    folder = writer.folder / ENCODER_FOLDER
    folder.mkdir()
    for entry in encoder.manifest.files:
        shutil.copyfile(encoder.path / entry.path, folder / entry.path)  # no link: later changes must stay separate
        writer.add_file(
            f"{ENCODER_FOLDER}/{entry.path}",
            role="visual_encoder",
            runtime=entry.runtime,
            precision=entry.precision,
            inputs=entry.inputs,
            outputs=entry.outputs,
            weights_quantized=entry.weights_quantized,
            weights_total=entry.weights_total,
            note=entry.note,
        )
    shutil.copyfile(encoder.path / MANIFEST_NAME, folder / MANIFEST_NAME)
    writer.add_file(f"{ENCODER_FOLDER}/{MANIFEST_NAME}", role="visual_encoder")
    return encoder
