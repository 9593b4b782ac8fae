"""AsynDGAN inside NVIDIA FLARE.

A FLARE job starts the program ``asyndgan`` at the server and at every site, and relays their messages. The job carries no
command and no path: each end configures its own program in ``local/asyndgan.toml`` of its FLARE workspace.

    from asyndgan_flare import AsynDganRecipe
    from nvflare.recipe import ProdEnv

    recipe = AsynDganRecipe("pilot", sites=["north", "south"], task="tissue")
    run = recipe.execute(ProdEnv(startup_kit_location="kits/admin@example.org"))
"""

from asyndgan_flare.recipe import AsynDganRecipe

__version__ = "0.1.0"
__all__ = ["AsynDganRecipe"]
