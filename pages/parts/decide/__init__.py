"""Parts of the page Decide: which recipe is worth its bytes?"""
