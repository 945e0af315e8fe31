"""What the gallery needs: where the library's figures are, and what a script must not leave to the next one."""

import jax
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def library_figures(block, block_vars, gallery_conf):
    """Save every figure that a script has assigned to a name and that pyplot does not know."""
    names = block_vars["example_globals"]
    paths = []
    for name, value in list(names.items()):
        if isinstance(value, Figure) and getattr(value, "number", None) is None:
            path = next(block_vars["image_path_iterator"])
            value.savefig(path, dpi=150)
            paths.append(path)
            del names[name]
    return figure_rst(paths, gallery_conf["src_dir"])


def single_precision(gallery_conf, fname):
    """Begin every script as a new process begins, whatever precision the one before chose."""
    jax.config.update("jax_enable_x64", False)
