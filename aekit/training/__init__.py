"""Training, on torch: install it with `pip install 'aekit[train]'`. Nothing at run time imports this package."""
