"""The report of `aekit evaluate` in words."""

from typing import Any

from aekit.cli.printing import counted


def report_lines(figures: dict[str, Any]) -> list[str]:
    """Return the report as lines. The first figures belong to the codes that the model is meant to store."""
    pca = figures["pca_note"]
    if figures["pca_mse"] is not None:
        pca = f"MSE {figures['pca_mse']:.5f} {pca}"
    what = f"PCA of {figures['pca_code_dim'] or figures['code_dim']} numbers"
    quality = f", at quality {figures['quality']}" if figures.get("quality") else ""
    return [
        f"{counted(figures['images'], 'image')}: {figures['test_images']}{quality}",
        f"MSE {figures['mse']:.5f}, PSNR {figures['psnr']:.2f} dB from codes of {_stored(figures)}; the pixels are "
        f"{figures['raw_bytes_per_image']:,.0f} bytes",
        f"{what}: {pca}",
        *_types(figures),
        *_archive(figures),
        *_codecs(figures["codecs"]),
        f"model {figures['model_id']}: {figures['model_bytes']:,} bytes, ran on {figures['provider']}",
    ]


def _types(figures: dict[str, Any]) -> list[str]:
    """Return a line on codes as numbers, or nothing for a model that stores uint8 alone.

    The float codes of such a model hold more than training paid for, so comparing the two would say nothing.
    """
    if figures["headline_codes"] == "uint8":
        return []
    return [
        f"float32 codes: {figures['float_bytes_per_image']:,.0f} bytes an image, MSE {figures['float_mse']:.5f}; "
        f"uint8 codes: {figures['uint8_bytes_per_image']:,.0f} bytes, MSE {figures['uint8_mse']:.5f}; "
        f"rounding costs {figures['uint8_cost_db']:.3f} dB"
    ]


def _stored(figures: dict[str, Any]) -> str:
    """Return the bytes of the codes that the headline error belongs to: in an archive, or as numbers."""
    archived = figures["archive_bytes_per_image"]
    if figures["headline_codes"] == "uint8" and archived is not None:
        return f"{archived:,.2f} bytes an image in an archive"
    return f"{figures['bytes_per_image']:,.0f} bytes an image ({figures['headline_codes']})"


def _archive(figures: dict[str, Any]) -> list[str]:
    size, named = figures["archive_bytes_per_image"], figures["archive_bytes_per_image_with_names"]
    if size is None:
        return ["in an archive: unknown: the model has no frequency tables; export it again"]
    names = "" if named is None else f", {named:.2f} with the names of the images"
    entropy = f"the entropy of the codes is {figures['entropy_bytes_per_image']:.2f}"
    if figures["entropy_model"] == "context":
        entropy = f"without the context model it would take {figures['entropy_bytes_per_image']:.2f} at least"
    return [
        f"in an archive: {size:.2f} bytes an image, {figures['archive_bits_per_pixel']:.4f} bits a pixel{names}; the "
        f"file's header is {figures['archive_header_bytes']} bytes of all; {entropy}"
    ]


def _codecs(found: dict[str, Any]) -> list[str]:
    """Return the comparison with image codecs: bytes as files, and in brackets without headers."""
    side, best, payload = found["middle"], found["best"], found["best_payload"]
    which = counted(found["images"], "image") + (f", of larger ones the middle {side}x{side} pixels," if side else "")
    lines = [
        f"image codecs at the same error: MSE {found['mse']:.5f} of uint8 codes on {which} in bytes an image, and in "
        "brackets without headers:"
    ]
    if found["aekit"]:
        lines.append(f"  aekit: {_sizes(found['aekit'])}, in an archive of all images")
    if best is None:
        return [*lines, "  no codec is as good at any setting"]
    coarse = "" if found["is_spanned"] else "; every setting that was tried has a smaller error than the model"
    lines.append(f"  best of codecs and scales: {_sizes(best)}, {_setting(best)}{coarse}")
    if payload != best:
        lines.append(f"  best without headers: {_sizes(payload)}, {_setting(payload)}")
    for name, setting in found["native"].items():
        if setting is None:
            lines.append(f"  {name} at native size: no quality is good enough")
        elif name in found["coarsest"]:
            lines.append(
                f"  {name} at native size: can't be so coarse; its lowest quality has MSE {setting['mse']:.5f}"
            )
        else:
            lines.append(f"  {name} at native size: {_sizes(setting)}, {_quality(setting)}")
    return [*lines, *_verdict(found)]


def _verdict(found: dict[str, Any]) -> list[str]:
    if not found["aekit"]:
        return []
    whole, inner = found["codecs_win"], found["codecs_win_payload"]
    share = found["aekit"]["bytes"] / found["best"]["bytes"]
    if whole:
        return [f"  codecs do better here: aekit takes {share:.2f} times the bytes of the best of them"]
    line = f"  aekit takes {share:.2f} of the bytes of the best of them"
    if inner:
        return [f"{line}; without headers codecs do better here"]
    return [line]


def _sizes(entry: dict[str, Any]) -> str:
    return f"{entry['bytes']:,.1f} ({entry['payload']:,.1f})"


def _quality(setting: dict[str, Any]) -> str:
    quality = "lossless" if setting["quality"] is None else f"quality {setting['quality']}"
    colour = f", {setting['chroma']}" if setting["chroma"] else ""
    return f"{quality}{colour}, MSE {setting['mse']:.5f}"


def _setting(setting: dict[str, Any]) -> str:
    scale = "native size"
    if setting["factor"] != 1:
        scale = f"sides divided by {setting['factor']:g} and enlarged again ({setting['enlarged']})"
    return f"{setting['codec']}, {scale}, {_quality(setting)}"
